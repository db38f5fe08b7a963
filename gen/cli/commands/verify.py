"""The command `systolith verify`."""

from argparse import ArgumentParser, Namespace

from systolith.gen.kit.progress import Reporter

from ..command import MISMATCH, OK, Command
from ..options import add_jobs, add_output, names, wrote

__all__ = ["Verify"]


class Verify(Command):
    name, summary = "verify", "the figures of Systolith's own verification"
    text = (
        "Print every figure of Systolith's verification: when it was measured, with which version, "
        "and its\ntarget. With --part, parts are measured anew, here; exit code 3 where a figure "
        "falls short of its target.\nFigures are kept in a file, those of a release come with it. "
        "Parts that need the repository say so.")
    examples = (
        "  systolith verify --report\n"
        "  systolith verify --report -o docs/explanation/verification-figures.md\n"
        "  systolith verify --part runtime,bytes\n"
        "  systolith verify --part bytes --python python3.13,/opt/python3.14/bin/python3.14")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--report", action="store_true",
                            help="print all figures that are kept (the default)")
        parser.add_argument("--part", type=names, metavar="NAME,...", default=[],
                            help="measure these parts; all: each; stale: those whose sources have "
                                 "changed")
        parser.add_argument("--list", action="store_true", help="list the parts")
        parser.add_argument("--quick", action="store_true",
                            help="with --part: the fewest cases, and nothing is kept")
        parser.add_argument("--python", type=names, metavar="PYTHON,...", default=[],
                            help="part bytes: other Pythons (default: python3.11 to python3.14 "
                                 "on the path)")
        parser.add_argument("--kept", metavar="FILE.json",
                            help="where figures are kept (default: in the repository those that "
                                 "come with Systolith, else verify.json here)")
        add_jobs(parser, "simulations", 1)
        add_output(parser, "PAGE.md", help="write the report as a page")

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.verify.report import listed, measured, report
        if options.list:
            print(listed())
            return OK
        good = True
        if options.part:
            with Reporter() as progress:
                good = measured(options.part, options.kept, options.quick, options.python,
                                options.jobs, progress)
        if options.report or options.output or not options.part:
            print(report(options.kept, options.output))
            wrote(*filter(None, [options.output]))
        return OK if good else MISMATCH
