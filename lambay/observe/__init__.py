"""What happened: CloudWatch Logs, metrics, alarms and Insights.

`Logs` is the service `logs` and where functions' output goes; `CloudWatch` is the service `cloudwatch` over
`Metrics`. Nothing here knows what a function is.
"""

from lambay.observe.cloudwatch import CloudWatch
from lambay.observe.logs import Logs
from lambay.observe.metrics.service import Metrics

__all__ = ["CloudWatch", "Logs", "Metrics"]
