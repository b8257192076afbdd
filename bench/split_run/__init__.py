"""A split runs between two hosts over a link that is made bad: no request is lost, and late ones are counted."""

DEVICE = "host"
