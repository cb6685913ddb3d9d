"""Plugins by family. A plugin's type name, parameters and formula are upstream's; what differs is said in its docstring."""
