"""The HTTP proxy before the replicas: its bounds, hosts and answers."""
