#!/bin/bash
# Makes blog.tar.gz: the blog, this folder and the library's wheel. Upload it to the bucket that the template names.
#
#   pack.sh [FILE]
set -euo pipefail
deploy=$(cd "$(dirname "$0")" && pwd)
blog=$(dirname "$deploy")
root=$(cd "$blog/../.." && pwd)
file=${1:-blog.tar.gz}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$root"
cp -r "$blog/blog" "$deploy" "$work/"
find "$work" -name __pycache__ -prune -exec rm -rf {} +
tar -czf "$file" -C "$work" blog deploy wheels
echo "$file: $(tar -tzf "$file" | wc -l) files"
