"""What happened: CloudWatch Logs (and later metrics, alarms and Insights)."""
