# SPDX-License-Identifier: Apache-2.0
"""The version, in a module of its own so that packaging reads it without importing anything else."""

__version__ = "0.4.0"
