"""What the policy says about an event: which rule, how much of it, how safe, for how long."""
