"""CloudWatch metrics: what was measured, kept compactly for 455 days, and asked for by statistic or by metric math.

Nothing here knows what a function or a file system is.
"""
