"""What Home Assistant's devices can do: services and their arguments, actions, states. It knows no language."""
