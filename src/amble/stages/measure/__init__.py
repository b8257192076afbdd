"""Graph and Device → Profile: operators, idle power, switching, accuracy."""
