"""A Slurm cluster that this machine reaches with ssh: commands run there, run directories here are copies."""
