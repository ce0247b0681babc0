"""Makes deliveries durable: group commit, circuit breaker, spool, import."""
