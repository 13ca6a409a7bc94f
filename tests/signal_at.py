"""python tests/signal_at.py SIGNAL STEP train.py ...: the script, sent a signal amid a step."""

import os
import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(number, step, script, *arguments):
    from neo_keras.native_logs import import_tensorflow

    import_tensorflow()
    import keras

    from neo_keras.training import trainer

    class Send(keras.callbacks.Callback):
        sent = False

        def on_train_batch_begin(self, batch, logs=None):
            if not self.sent and self.model.optimizer.iterations.numpy() >= int(step):
                self.sent = True
                os.kill(os.getpid(), int(number))

    def watched(run, corpus, resume, callbacks, *others):
        return train(run, corpus, resume, [*callbacks, Send()], *others)

    train, trainer.train = trainer.train, watched
    sys.argv = [script, *arguments]
    runpy.run_path(str(ROOT / script), run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
