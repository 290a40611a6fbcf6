# SPDX-License-Identifier: Apache-2.0
"""Many files: find them, tag them one after another, keep what was found."""
