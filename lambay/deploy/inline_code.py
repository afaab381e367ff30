"""Code that stands in the template (`ZipFile`): a package with it and the response module that Lambda adds.

See the Lambda resource's `Code` in the CloudFormation template reference, and "cfn-response module".
"""

from __future__ import annotations

import io
import zipfile

_PYTHON = '''\
"""Tells CloudFormation how a custom resource fared."""

import json
import urllib.request

SUCCESS = "SUCCESS"
FAILED = "FAILED"


def send(event, context, responseStatus, responseData, physicalResourceId=None, noEcho=False, reason=None):
    answer = {
        "Status": responseStatus,
        "Reason": reason or "See the details in CloudWatch Log Stream: " + context.log_stream_name,
        "PhysicalResourceId": physicalResourceId or context.log_stream_name,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "NoEcho": noEcho,
        "Data": responseData,
    }
    request = urllib.request.Request(
        event["ResponseURL"], data=json.dumps(answer).encode(), method="PUT", headers={"content-type": ""}
    )
    with urllib.request.urlopen(request) as response:
        print("Status code:", response.status)
'''

_NODE = """\
// Tells CloudFormation how a custom resource fared.
const http = require('http');
const https = require('https');

exports.SUCCESS = 'SUCCESS';
exports.FAILED = 'FAILED';

exports.send = function (event, context, responseStatus, responseData, physicalResourceId, noEcho) {
  const body = Buffer.from(JSON.stringify({
    Status: responseStatus,
    Reason: 'See the details in CloudWatch Log Stream: ' + context.logStreamName,
    PhysicalResourceId: physicalResourceId || context.logStreamName,
    StackId: event.StackId,
    RequestId: event.RequestId,
    LogicalResourceId: event.LogicalResourceId,
    NoEcho: noEcho || false,
    Data: responseData,
  }));
  return new Promise(function (resolve, reject) {
    const address = new URL(event.ResponseURL);
    const client = address.protocol === 'https:' ? https : http;
    const request = client.request(
      address,
      { method: 'PUT', headers: { 'content-type': '', 'content-length': body.length } },
      function (response) { response.resume(); context.done(); resolve(); },
    );
    request.on('error', function (error) { context.done(error); reject(error); });
    request.end(body);
  });
};
"""

# The same moment for all, so that the same text is the same package.
_MOMENT = (1980, 1, 1, 0, 0, 0)


def archive(source: str, runtime: str, handler: str) -> bytes:
    """A zip with `source` as the module that Lambda makes of it: `index`, whatever the handler's file is called."""
    python = runtime.startswith("python") or not runtime.startswith("nodejs")
    files = (
        {"index.py": source, "cfnresponse.py": _PYTHON}
        if python
        else {
            "index.js": source,
            "node_modules/cfn-response/index.js": _NODE,
        }
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = 0o644 << 16
            package.writestr(entry, text)
    return made.getvalue()
