"""Reading weights and feature maps with bit errors costs little beside a published injector."""

DEVICE = "cpu"
