"""A function's environment variables: Lambda Developer Guide, "Defined runtime environment variables"."""

from __future__ import annotations

from lambay.runtime.languages import PROVIDED, RUNTIME_API_PORT, Language
from lambay.runtime.slot import ENDPOINT_PORT
from lambay.runtime.spec import Credentials, EnvironmentSpec

# Docker's.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment_variables(
    spec: EnvironmentSpec, language: Language, credentials: Credentials, log_stream: str
) -> dict[str, str]:
    """Lambda's own and the user's; the user's win except over the reserved ones."""
    variables = {
        **_given(spec, language),
        "SHLVL": "0",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        **spec.variables,
        "_HANDLER": spec.handler or _handler(spec),
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_REGION": spec.region,
        "AWS_DEFAULT_REGION": spec.region,
        "AWS_LAMBDA_FUNCTION_NAME": spec.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_LOG_FORMAT": spec.log_format,
        "AWS_LAMBDA_INITIALIZATION_TYPE": spec.initialization_type,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{RUNTIME_API_PORT}",
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
    }
    if spec.runtime not in ("", *PROVIDED):
        variables["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{spec.runtime}"
    if spec.log_format == "JSON" and spec.application_log_level:
        variables["AWS_LAMBDA_LOG_LEVEL"] = spec.application_log_level
    # Where Lambay answers inside the sandbox; a user may point a client elsewhere, at a peer on the loopback.
    variables.setdefault("AWS_ENDPOINT_URL", f"http://127.0.0.1:{ENDPOINT_PORT}")
    return variables


def _given(spec: EnvironmentSpec, language: Language) -> dict[str, str]:
    """What the runtime or, in its place, the image has set."""
    if spec.image is None:
        return dict(language.variables)
    return {"PATH": _PATH, "TZ": ":UTC", "LANG": "en_US.UTF-8", **dict(spec.image.environment)}


def _handler(spec: EnvironmentSpec) -> str:
    """An image's command is its handler, for the runtimes of AWS's base images."""
    return spec.image.command[0] if spec.image is not None and spec.image.command else ""
