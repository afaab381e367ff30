"""CloudWatch alarms: metrics and other alarms watched, states changed, actions carried out.

Actions leave through ports that the composition gives: topics, functions, events.
"""
