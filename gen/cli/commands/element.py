"""Commands on single processing elements."""

from argparse import ArgumentParser, Namespace

from systolith.gen.kit.progress import Reporter

from ..command import MISMATCH, OK, Command
from ..options import add_dsp, add_jobs, add_output, count, names, wrote

__all__ = ["Pe", "Prove"]


class Pe(Command):
    name, summary = "pe", "write one processing element for any use"
    text = (
        "Write one processing element as stand-alone Verilog (pe.v), the decoders that stand at "
        "an array's\nedges (edge.v), test vectors from the formats' numbers (vectors.csv) with a "
        "testbench that plays\nthem, and pe.json: ports, widths, latencies, and how partial sums "
        "are read.")
    examples = (
        "  systolith pe --activation e3m2 --weight e3m2 -o pe-e3m2\n"
        "  systolith pe --activation bipolar1 --weight bipolar1 --lanes 64 --target ecp5 -o xnor")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.measure.element_area import ELEMENT_TARGETS
        for name in ("activation", "weight"):
            parser.add_argument(f"--{name}", required=True, metavar="FORMAT",
                                help="such as int8, e4m3, e3m2fn, bipolar1")
        parser.add_argument("--lanes", type=count, default=1, metavar="N",
                            help="products in each cycle (default: %(default)s)")
        parser.add_argument("--rows", type=count, default=16, metavar="N",
                            help="elements of a column, for which sums are exact "
                                 "(default: %(default)s)")
        parser.add_argument("--target", choices=ELEMENT_TARGETS, default="xc7",
                            help="what it is built for (default: %(default)s)")
        parser.add_argument("--stages", type=count, default=1, metavar="N",
                            help="pipeline stages; 1 is the smallest (default: %(default)s)")
        parser.add_argument("--columns", type=count, default=1, metavar="N",
                            help="elements side by side that share their activations, and with "
                                 "--dsp multiplications where two fit one block (default: "
                                 "%(default)s)")
        add_dsp(parser)
        add_output(parser, "DIR", required=True,
                   help="made, or replaced if it holds an earlier element")

    def run(self, options: Namespace) -> int:
        from systolith.gen.measure.element import PeConfig, write_pe
        config = PeConfig(activation=options.activation, weight=options.weight,
                          lanes=options.lanes, rows=options.rows, target=options.target,
                          stages=options.stages, dsp=options.dsp, columns=options.columns)
        with Reporter() as progress:
            files = write_pe(config, options.output, progress=progress)
        wrote(*files)
        return OK


class Prove(Command):
    name, summary = "prove", "prove processing elements on every pair of operands"
    text = (
        "Run the RTL of processing elements, edge decoders included, on every pair of operand "
        "codes of every\npair of formats, and on random ones and corners beyond 8 bits. Results "
        "are written as they come; an\ninterrupted proof goes on where it stopped.")
    examples = (
        "  systolith prove --jobs 2 -o build/prove\n"
        "  systolith prove --formats e4m3,e5m2,hfp8 --structures lut6,lut4 -o build/prove\n"
        "  systolith prove --formal")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.hw.spec.structures import Structure
        parser.add_argument("--formal", action="store_true",
                            help="instead: equivalence of small elements with their specification "
                                 "for all operands and partial sums, by Yosys's SAT solver")
        parser.add_argument("--formats", type=names, metavar="NAME,...",
                            help="activations and weights (default: the catalogue)")
        parser.add_argument("--structures", type=names, metavar="NAME,...",
                            help=", ".join(Structure) + " (default: all)")
        add_jobs(parser, "simulations", 1)
        add_output(parser, "DIR", default="build/prove", help="default: %(default)s")

    def run(self, options: Namespace) -> int:
        from systolith.gen.kit.tables import text_table
        from systolith.gen.study.prove import prove, summary
        if options.formal:
            from systolith.gen.study.formal import prove_formally
            with Reporter() as progress:
                table, found = prove_formally(progress=progress)
            print(text_table(table, "llrllr"))
            return MISMATCH if found else OK
        with Reporter() as progress:
            results, files = prove(options.output, options.formats, options.structures,
                                   jobs=options.jobs, progress=progress)
        print(text_table(summary(results), "llrrrrrr"))
        wrong = [case for result in results for case in result["cases"] if case["mismatches"]]
        for case in wrong[:20]:
            print(f"{case['activation']} x {case['weight']}, {case['lanes']} lanes, "
                  f"{case['columns']} column{'s' * (case['columns'] > 1)}, "
                  f"{case['structure']}, {case['stages']} stages"
                  f"{case['kind'] and ', ' + case['kind']}: {case['first']}")
        wrote(*files)
        return MISMATCH if wrong else OK
