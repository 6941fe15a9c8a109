#!/bin/sh
# The same check over plain HTTP: the original's form-data route, then JSON.
#   ./http_curl.sh http://127.0.0.1:8000
set -eu
here=$(dirname "$0")
url=${1:-http://127.0.0.1:8000}

curl -sS "$url/healthz"
echo

# As the original service takes it: waits, answers formated, compiled, passed and msg.
curl -sS "$url/compute_score" \
  --form "cuda_code=<$here/cpp_relu/candidate.py" \
  --form "torch_code=<$here/cpp_relu/reference.py"
echo

# As JSON: the whole verdict. Python stands in for whatever builds the body in your language.
python3 -c '
import json, pathlib, sys
here = pathlib.Path(sys.argv[1]) / "cpp_relu"
print(json.dumps({
    "candidate": (here / "candidate.py").read_text(),
    "reference": (here / "reference.py").read_text(),
    "options": {"device": "cpu"},
}))' "$here" |
  curl -sS "$url/v1/checks?wait=600" --header "Content-Type: application/json" --data-binary @-
echo
