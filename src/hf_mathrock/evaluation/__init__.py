# SPDX-License-Identifier: Apache-2.0
"""Models against data by a stated protocol."""
