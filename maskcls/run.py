"""Entry point for one experiment, or with -m for a sweep: the same as `python -m maskcls run`.

python -m maskcls.run model=effnet_b4 loss=focal
python -m maskcls.run -m model=resnet18,effnet_b0 loss=ce,focal
"""

from maskcls.cli.run import main

if __name__ == "__main__":
    main()
