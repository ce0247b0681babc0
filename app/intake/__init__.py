"""How a delivery becomes durable."""
