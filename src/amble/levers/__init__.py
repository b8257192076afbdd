"""What may be turned: each lever whole in its folder, from how it is measured to how it is shown."""
