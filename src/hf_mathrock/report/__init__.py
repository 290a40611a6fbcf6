# SPDX-License-Identifier: Apache-2.0
"""Results as people read them: timeline pictures and tables.

Everything here reads plain dictionaries, as the pipelines return them and `tags.json` stores them, and imports nothing
else of the package: a report can be made on a machine that has neither the model nor torch.
"""
