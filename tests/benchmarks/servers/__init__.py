"""The servers that the endpoint is compared with."""
