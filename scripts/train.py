"""Train one arm of a recipe under any launcher. Does what the pipeline's train stage does, in the same folder, so
`negrl run` finds it done afterwards.

    negrl run RECIPE --until view                      # everything before it, in one process
    accelerate launch scripts/train.py --config RECIPE --arm step_advantage train.learning_rate=1e-6
    torchrun --nproc_per_node 2 scripts/train.py --config RECIPE --arm step_advantage --num-processes 2
"""

import argparse
import sys

from negrl.errors import GuardTripped, InputError, unwritable
from negrl.recipe import load_recipe
from negrl.terminal import safe
from negrl.trainers.distributed import check_processes, is_main


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train one arm of a recipe.")
    parser.add_argument("--config", required=True, help="recipe YAML")
    parser.add_argument("--arm", help="one of the recipe's arms (default: the first)")
    parser.add_argument("--num-processes", type=int, help="refuse to train with any other number")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    return parser


def main() -> int:
    args = make_parser().parse_intermixed_args()
    try:
        recipe = load_recipe(args.config, args.overrides)

        from negrl.pipeline import pick_arm, train_arm
        from negrl.progress import Reporter, SafeConsole

        arm = pick_arm(recipe, args.arm)
        check_processes(args.num_processes, recipe.policy.dtype)
        done = train_arm(recipe, arm, Reporter(SafeConsole(highlight=False, quiet=not is_main())))
        if is_main():
            print(safe(f"model: {done.stage.path / 'model'}"))
        return 0
    except (InputError, GuardTripped) as error:
        if is_main():
            print(f"train.py: {safe(error)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if (line := unwritable(error)) is None:
            raise
        if is_main():
            print(f"train.py: {safe(line)}", file=sys.stderr)
        return InputError.exit_code


if __name__ == "__main__":
    sys.exit(main())
