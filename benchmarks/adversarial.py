"""What the adversarial stage does beyond its supervised loss, on generated songs, against a control without it.

    python -m benchmarks.adversarial FOLDER [--steps 160] [--ahead 100]

Both runs start from the same weights and take the same steps on the same crops; in the control the discriminator learns
as well, but does not teach the network. Prints means over the fifths of the training.
"""

import argparse
from pathlib import Path

import numpy as np

from examples.three_stages import adversarial, curve, first_two_stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--ahead", type=int, default=100, help="steps in which the discriminator only learns")
    parser.add_argument("--accuracy-weight", type=float, default=100.0)
    options = parser.parse_args()
    folder, steps = options.folder, options.steps
    pretrained, supervised = first_two_stages(folder)
    weight = f"--model.accuracy_weight={options.accuracy_weight}"
    for name, ahead in (("adversarial", options.ahead), ("control", steps)):
        adversarial(
            folder, name, steps, pretrained, supervised, weight, f"--model.discriminator_steps_ahead={ahead}"
        )  # fmt: skip
        for value in ("discriminator_accuracy_generated", "discriminator_accuracy", "residual_vocals_db", "accuracy"):
            means = [part.mean() for part in np.array_split(curve(folder / name, f"train/{value}"), 5)]
            print(f"| {name} | {value} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
