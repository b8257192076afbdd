"""A server in several processes: fronts that talk to clients, engines that compute, and a parent that looks after them.

Every front speaks with every engine over a local socket; tensors that are large lie in memory that they share. A front
gives a request to the engine that has the least to do, whoever gave it that, so that many queues do the work of one.
"""
