"""`--governor amble` needs no more energy than PIT's rule at the same accuracy and within the same deadlines."""

DEVICE = "sim"
