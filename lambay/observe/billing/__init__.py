"""What this month's usage would cost in AWS: `AWS/Billing EstimatedCharges`, and a table for people."""
