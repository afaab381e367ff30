"""CloudWatch Logs Insights: its query language becomes SQL, which SQLite runs over the stored events."""
