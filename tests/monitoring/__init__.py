"""That the shipped alerts tell the truth: promtool for what takes hours, a real Prometheus for real outages."""
