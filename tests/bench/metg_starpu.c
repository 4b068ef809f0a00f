// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* METG (graph.h) of StarPU: metg_starpu [--stencil 0|1]; STARPU_NCPU says how many workers. */
#include <starpu.h>
#include "graph.h"

#define CELL_BYTES 64

static starpu_data_handle_t cells[2][WIDTH];

static void work(void *buffers[], void *units)
{
	(void)buffers;
	work_units((uintptr_t)units);
}

/* By number of handles: the output, then up to three inputs. */
static struct starpu_codelet codelets[5];

static void run(const struct graph *graph, void *context)
{
	(void)context;
	for (uint64_t step = 0; step < graph->steps; step++) {
		for (uint64_t i = 0; i < WIDTH; i++) {
			struct starpu_task *task = starpu_task_create();
			int count = 0;

			if (graph->stencil) {
				task->handles[count++] = cells[step % 2][i];
				for (uint64_t k = i ? i - 1 : 0; step && k <= i + 1 && k < WIDTH;
				     k++)
					task->handles[count++] = cells[(step - 1) % 2][k];
			}
			task->cl = &codelets[count];
			task->cl_arg = (void *)(uintptr_t)graph->units;
			if (starpu_task_submit(task))
				exit(1);
		}
	}
	starpu_task_wait_for_all();
}

int main(int argc, char **argv)
{
	static char memory[2][WIDTH][CELL_BYTES];
	unsigned workers = (unsigned)atoi(getenv("STARPU_NCPU") ? getenv("STARPU_NCPU") : "1");
	double rate = units_per_ns(), peak = peak_rate(workers, rate);

	if (starpu_init(NULL))
		return 1;
	for (int n = 0; n < 5; n++) {
		codelets[n] = (struct starpu_codelet){
			.cpu_funcs = { work }, .nbuffers = n, .name = "work",
			.modes = { STARPU_W, STARPU_R, STARPU_R, STARPU_R },
		};
	}
	for (int row = 0; row < 2; row++)
		for (int i = 0; i < WIDTH; i++)
			starpu_vector_data_register(&cells[row][i], STARPU_MAIN_RAM,
						    (uintptr_t)memory[row][i], CELL_BYTES, 1);
	print("metg_us", metg_us(rate, peak, argument(argc, argv, "stencil", 1), run, NULL));
	for (int row = 0; row < 2; row++)
		for (int i = 0; i < WIDTH; i++)
			starpu_data_unregister(cells[row][i]);
	starpu_shutdown();
	return 0;
}
