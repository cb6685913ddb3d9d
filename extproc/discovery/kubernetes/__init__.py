"""Discovery from Kubernetes: pools, their pods, their objectives and rewrites, the router's ConfigMaps of adapters.

The modules named after objects read them: pure, any JSON in, a value or an ObjectProblem out. The others watch, and give
what was read to a sink. An object that can't be read keeps its last good value in force.
"""
