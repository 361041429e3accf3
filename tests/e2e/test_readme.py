"""What the README says is so: its configuration reference, its configurations, its links."""
import os
import re
import shutil
import subprocess

from shoal_test.case import Case, only_shoal
from shoal_test.environment import BIN, DEADLINE, ROOT


def run(*command, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=4 * DEADLINE, check=False, **options)


@only_shoal
class Readme(Case):
    def test_configuration_reference_is_what_the_program_says(self):
        done = run(ROOT / "conf/update-reference", "--check", BIN / "shoald")
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_every_configuration_shown_is_valid(self):
        shutil.copytree(ROOT / "certs", os.path.join(self.folder, "certs"),
                        ignore=shutil.ignore_patterns("*.pem", "*.key", "*.csr", "*.srl"))
        made = run(os.path.join(self.folder, "certs", "make-demo"))
        self.assertEqual(made.returncode, 0, made.stdout)
        shown = re.findall(r"^```json\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        self.assertGreater(len(shown), 1)
        os.mkdir(os.path.join(self.folder, "conf"))
        for number, text in enumerate(shown):
            file = os.path.join(self.folder, "conf", "shown%d.json" % number)
            with open(file, "w", encoding="utf-8") as out:
                out.write(text)
            done = run(BIN / "shoald", "-c", file, "--check")
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertNotIn("warning", done.stdout)

    def test_links_lead_somewhere(self):
        for readme in [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]:
            for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme.read_text()):
                self.assertTrue((readme.parent / target).exists(), "%s: %s" % (readme, target))
