"""One process of a training on several devices: what train.py does, observed or killed.

python tests/worker.py '{"run": ..., "steps": ...}' [--devices 2] [--kill-at STEP] [--keep FILE]
"""

import argparse
import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
DEFAULTS = dict(
    data=(), preset=None, resume=False, overwrite=False, tokenizer=None, device="auto",
    compile="off", mixed_precision="auto",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("arguments", type=json.loads)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--keep")
    options = parser.parse_args()

    from neo_keras.errors import one_line_errors
    from neo_keras.native_logs import import_tensorflow

    import_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf

    from neo_keras.training import launch, trainer

    device = tf.config.LogicalDeviceConfiguration()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [device] * options.devices)

    class Observer(keras.callbacks.Callback):
        losses = []

        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == options.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(float(logs["loss"]))

        def on_train_end(self, logs=None):
            if options.keep:
                np.savez(options.keep, self.losses, *self.model.get_weights())

    def observed(run, corpus, resume, callbacks, *others):
        return train(run, corpus, resume, [*callbacks, Observer()], *others)

    train, trainer.train = trainer.train, observed
    with one_line_errors():
        launch.run_training(**{**DEFAULTS, **options.arguments})


if __name__ == "__main__":
    main()
