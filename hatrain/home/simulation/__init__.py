"""A simulated home: entities in states, and what Home Assistant's services do to them."""
