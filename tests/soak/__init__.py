"""The whole kit for half an hour, disturbed all the time: nothing lost, nothing twice, and nothing that grows."""
