"""A split runs between two hosts over a link that is made bad: in time, and no request is lost."""

DEVICE = "host"
