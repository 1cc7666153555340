"""Cases to learn and the prompts that test them."""
