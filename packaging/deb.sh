#!/usr/bin/env bash
# Makes the Debian package, from a clean clone: packaging/deb.sh [PROFILE]. Prints where it is.
# Takes what the README's build takes, and cargo-deb, which is installed if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release}
command -v cargo-deb >/dev/null || cargo install --locked cargo-deb
cargo build --locked --profile "$profile" --bins
# Manual pages, completions, the configuration; whatever the profile, so that no second program is linked for the release.
cargo run --locked --quiet --example package -- target/package
cargo deb --locked --no-build --profile "$profile"
