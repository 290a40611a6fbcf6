# SPDX-License-Identifier: Apache-2.0
"""Generated music with exact labels: a composer, a band that plays it, and the folder it is written to."""

RECIPE_VERSION = 2
"""Raise it when composer or renderer make other audio of the same seed; what was kept is then made anew."""
