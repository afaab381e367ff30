"""What happened: CloudWatch Logs (and later metrics, alarms and Insights).

`Logs` is the service `logs` and where functions' output goes. Nothing here knows what a function is.
"""

from lambay.observe.logs import Logs

__all__ = ["Logs"]
