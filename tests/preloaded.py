"""What trainings and runs import, imported: see processes.py."""

import matplotlib.pyplot
import pyarrow.parquet
import transformers.models.llama.modeling_llama
import trl.trainer.dpo_trainer
import trl.trainer.sft_trainer

import negrl.pipeline.learn
import negrl.trainers.fit
import negrl.trainers.preference
import negrl.trainers.sft
import negrl.trainers.step_advantage

__all__ = ["matplotlib", "negrl", "pyarrow", "transformers", "trl"]
