"""What happened: CloudWatch Logs, metrics, alarms and Insights.

`Logs` is the service `logs` and where functions' output goes; `CloudWatch` is the service `cloudwatch` over
`Metrics`; `Publisher` puts there what file systems and functions did, `Live` shows it, `Alarms` watch it, and
`Billing` says what it would cost.
"""

from lambay.observe.alarms.actions import Actions as AlarmActions
from lambay.observe.alarms.service import Alarms
from lambay.observe.billing.charges import Charges
from lambay.observe.billing.nat import NatGateways
from lambay.observe.billing.prices import Prices
from lambay.observe.billing.provisioned import ProvisionedUsage
from lambay.observe.billing.service import Billing
from lambay.observe.cloudwatch import CloudWatch
from lambay.observe.live import Live
from lambay.observe.logs import Logs
from lambay.observe.metrics.service import Metrics
from lambay.observe.prometheus import PrometheusPage
from lambay.observe.publishing.functions import FunctionActivity
from lambay.observe.publishing.network import NetworkTraffic
from lambay.observe.publishing.publisher import Publisher

__all__ = [
    "AlarmActions",
    "Alarms",
    "Billing",
    "Charges",
    "CloudWatch",
    "FunctionActivity",
    "Live",
    "Logs",
    "Metrics",
    "NatGateways",
    "NetworkTraffic",
    "Prices",
    "PrometheusPage",
    "ProvisionedUsage",
    "Publisher",
]
