"""The peers: gateways of other makes, and of ours, each started by the suite."""
