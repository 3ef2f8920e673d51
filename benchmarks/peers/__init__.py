"""What a delivery, a stream and a connect cost in other servers of event streams, beside ours."""
