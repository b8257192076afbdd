"""One function a verb: the wiring of the stages, and the loops that cross them.

Every function takes and gives artefacts; none prints. A verb of one lever or one service is where these are.
"""
