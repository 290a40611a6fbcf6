# SPDX-License-Identifier: Apache-2.0
"""The `hf-mathrock` command: one file per subcommand, each of which parses, calls and prints."""
