#!/usr/bin/env node
// The workspace's `tenterhook` command is the repository's way in.
import '../../bootstrap.mjs'
