"""What a type checker has to accept, and does in `make lint`: every task that ships is what its protocol says."""

from mnm_jax import tasks, training

SAMPLED: list[training.Task] = [
    tasks.Dictionary(num_pairs=2),
    tasks.MultiQueryRecall(),
    tasks.algorithmic.Copy(),
    tasks.algorithmic.RepeatCopy(),
    tasks.algorithmic.DoubleCopy(),
    tasks.algorithmic.AssociativeRecall(),
    tasks.algorithmic.PrioritySort(),
]
BUCKETED: list[training.BucketedTask] = [tasks.Babi()]
PORTABLE: list[training.PortableTask] = [tasks.Babi()]
INTERACTIVE: list[training.InteractiveTask] = [tasks.MazeTask(), tasks.BanditTask()]
