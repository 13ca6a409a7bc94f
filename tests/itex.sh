#!/usr/bin/env bash
# From training to a written text with Intel's plug-in loaded, on its build for CPUs: `make test-itex`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== the plug-in is loaded"
"$PYTHON" -c "import tensorflow" 2>&1 | grep "Intel Extension for Tensorflow.* backend is loaded"

echo "== training, resuming, writing, exporting, writing from the exported file"
"$PYTHON" train.py --run "$work/run" --steps 40 --eval-every 20
"$PYTHON" train.py --run "$work/run" --steps 60 --resume
"$PYTHON" generate.py "$work/run" --prompt "ROMEO:" --max-tokens 60 --seed 1 | tee "$work/keras.txt"
"$PYTHON" export.py "$work/run" --formats saved_model,tflite --quantize float32,int8
"$PYTHON" generate.py "$work/run/export/model-float32.tflite" --prompt "ROMEO:" --max-tokens 60 \
  --seed 1 | tee "$work/tflite.txt"
cmp "$work/keras.txt" "$work/tflite.txt"

echo "== an XPU that is not there is one line"
code=0
"$PYTHON" train.py --run "$work/none" --device xpu 2> "$work/error.txt" || code=$?
cat "$work/error.txt"
test "$code" = 2
test "$(wc -l < "$work/error.txt")" = 1
grep -q "^error: --device xpu: TensorFlow 2.15.1 sees no XPU, for " "$work/error.txt"
echo "itex: all well"
