"""Log → Report: was the deadline met, at what energy, against which baseline?"""
